"""The columns of the summary after those of the configuration, one line a column: what `analyze.summary` makes of windows."""

SUMMARY = """
n_blocks | int | | blocks with at least one usable window
n_windows | int | | usable windows
energy_j_per_token | float | J | energy per output token; low and high: 95 % t interval of block means on the log scale
energy_j_per_token_low | float | J | lower end, within one card
energy_j_per_token_high | float | J | upper end, within one card
energy_j_per_token_abs_low | float | J | lower end against the true energy: gain and offset included
energy_j_per_token_abs_high | float | J | upper end against the true energy: gain and offset included
energy_j_per_request | float | J | energy per request, of a task per item; low and high: 95 % t interval of block means, log scale
energy_j_per_request_low | float | J | lower end, within one card
energy_j_per_request_high | float | J | upper end, within one card
requests_per_second | float | 1/s | requests per second, of a task items per second
requests_per_second_low | float | 1/s | lower end of the 95 % t interval of block means, log scale
requests_per_second_high | float | 1/s | upper end
cpu_s_per_token | float | s | CPU time per output token; what an estimated energy really is
cpu_s_per_request | float | s | CPU time per request, of a task per item
tokens_per_j | float | tok/J | output tokens per joule
energy_wh | float | Wh | energy of a window, of a task one pass over its items; geometric mean of block means
energy_cv | float | | coefficient of variation across blocks of the energy per token, of a task per item
energy_cv_low | float | | lower end, chi-square
energy_cv_high | float | | upper end, chi-square
throughput_tok_s | float | tok/s | output tokens per second
throughput_tok_s_low | float | tok/s | lower end
throughput_tok_s_high | float | tok/s | upper end
throughput_cv | float | | coefficient of variation of the throughput across blocks
power_mean_w | float | W | mean power
memory_peak_gb | float | GB | peak memory
model_gb | float | GB | loaded parameters and buffers
ttft_s | float | s | time to first token
energy_wh_low | float | Wh | lower end of the 95 % interval
energy_wh_high | float | Wh | upper end of the 95 % interval
score | float | | task score as a fraction in [0, 1]
score_low | float | | lower end of Wilson's 95 % interval over items
score_high | float | | upper end of Wilson's 95 % interval over items
n_items | float | | items the score was taken over; texts, of a perplexity
word_perplexity | float | | perplexity per word over all texts; low and high: 95 % t interval over texts
word_perplexity_low | float | | lower end
word_perplexity_high | float | | upper end
token_perplexity | float | | perplexity per token of the model's own tokenizer; low and high: 95 % t interval over texts
token_perplexity_low | float | | lower end
token_perplexity_high | float | | upper end
eor | float | 1/Wh | score per watt hour (EOR)
eor_low | float | 1/Wh | lower end, items and blocks combined (MOVER)
eor_high | float | 1/Wh | upper end, items and blocks combined (MOVER)
tweor | float | 1/(Wh s) | score per watt hour and second (TWEOR)
tweor_low | float | 1/(Wh s) | lower end, items and blocks combined (MOVER)
tweor_high | float | 1/(Wh s) | upper end, items and blocks combined (MOVER)
energy_j_per_correct | float | J | energy per correct answer; the energy of the task over the items it got right
energy_j_per_correct_low | float | J | lower end, items and blocks combined (MOVER)
energy_j_per_correct_high | float | J | upper end, items and blocks combined (MOVER)
basis | str | | where the energy comes from
boundary | str | | what the energy covers
energy_kind | str | | gross energy, or net of the context idle
reason | str | | what was left out of this row and why
gate | str | | ok: CV <= 2 %; noisy: <= 5 %; rejected: above, on the point CV of the energy
baseline | str | | strategy that the ratio refers to
ratio_to_baseline | float | | energy per token, of a task per item, over the baseline's, same stratum, paired on block
ratio_to_baseline_low | float | | lower end of the 95 % interval
ratio_to_baseline_high | float | | upper end of the 95 % interval
"""
