"""The columns of data/published, for the registry in `schema`: `name | kind | unit | meaning`, one a line."""

PUBLISHED = """
source | str | | who published the figure; a key of sources.csv
location | str | | where in the source it stands
licence | str | | terms of the figure
accounting | str | | whether idle power is in the energy as the source states it; gross, net or unknown
per | str | | what one energy figure is about
n_runs | float | | runs behind the figure as stated
idle_stated_w | float | W | idle power that the source says it subtracted
session | str | | measuring session of the source
gpu | str | | catalog slug of the accelerator; cpu where there is none
architecture | str | | GPU architecture
model | str | | model id
model_printed | str | | model as the source prints it
params_b | float | 1e9 | parameters
params_claimed_b | float | 1e9 | parameters as a source rounds them
claimed_location | str | | where they are claimed
quantization | str | | quantization strategy
precision | str | | number format where the source names no strategy
task | str | | what runs; generate is plain generation of a fixed length
complexity | str | | task complexity as the source grades it
complexity_reconstructed | str | | whether the grade was inferred from the source's order
batch_size | int | | batch size [sequences]
input_tokens | int | tok | input tokens a sequence
output_tokens | int | tok | output tokens a sequence
power_limit_w | float | W | power limit in force
run | int | | number of the run within its configuration
requests | int | | requests of the example
tokens_out | int | tok | output tokens produced inside the window, counted
throughput_tok_s | float | tok/s | output tokens per second
throughput_std_tok_s | float | tok/s | standard deviation over the runs
power_w | float | W | mean power
power_std_w | float | W | standard deviation over the runs
energy_wh | float | Wh | mean energy of a window
energy_j | float | J | gross energy of the window
energy_j_per_token | float | J | energy per output token; low and high: 95 % t interval of block means on the log scale
energy_j_per_1k_tok | float | J | energy per 1000 output tokens
energy_std_j_per_1k_tok | float | J | standard deviation over the runs
energy_j_per_request | float | J | energy per sequence
energy_kwh | float | kWh | energy of all requests of the example
energy_reduction_pct | float | % | printed reduction of energy against the reference
energy_change_pct | float | % | printed change of energy against the reference
reduction_against | str | | reference of the printed reduction where it is not the baseline strategy
duration_s | float | s | length of the window
latency_ms | float | ms | latency as printed; per token or per batch, see the session
gpu_utilisation_pct | float | % | GPU utilisation
gpu_utilisation | float | | GPU utilisation as a fraction
memory_gb | float | GB | memory
memory_type | str | | memory technology
memory_bandwidth_gb_s | float | GB/s | memory bandwidth
memory_pct_of_fp32 | float | % | memory against FP32
tensor_core_generation | int | | generation of the tensor cores
tdp_w | float | W | board power limit
idle_power_w | float | W | idle power of the board
idle_location | str | | source of the idle power
accuracy | float | | task score as a fraction in [0, 1]
accuracy_pct | float | % | task score in percent
accuracy_loss_pct | float | % | printed loss of accuracy
accuracy_loss_low_pct | float | % | lower end of the printed loss of accuracy
accuracy_loss_high_pct | float | % | upper end of the printed loss of accuracy
accuracy_loss_upper_pct | float | % | printed upper bound of the loss of accuracy
performance_retained_pct | float | % | printed share of performance retained
speedup_pct | float | % | printed gain of speed
expected_accuracy_retained_pct | float | % | accuracy that the source expects to be retained
expected_efficiency_gain_pct | float | % | gain of efficiency that the source expects
n_items | float | | items of the task
perplexity | float | | perplexity on WikiText-2
eor | float | 1/Wh | score per watt hour (EOR)
tweor | float | 1/(Wh s) | score per watt hour and second (TWEOR)
best | str | | yes where the source marks the row as best
best_for | str | | use that the source recommends
scenario | str | | deployment scenario of the source
deployment_cost | str | | cost as the source grades it
cost_reconstructed | str | | whether that grade was inferred from the source's order
pue | float | | power usage effectiveness
price_usd_per_kwh | float | $/kWh | electricity price
cost_usd | float | $ | electricity cost
carbon_g_per_kwh | float | g/kWh | carbon intensity
carbon_kg | float | kg | emissions
x | float | | value before quantization
q | int | | printed code
scale | float | | codes per unit of x
zero_point | int | | code of zero
q_min | int | | least code
q_max | int | | greatest code
date | str | | day of the session
software | str | | library versions as stated
accounting_evidence | str | | how the session's energy was accounted, and how one can tell
remark | str | | what is odd
title | str | | title of the source
author | str | | who wrote it
locator | str | | where it can be had
"""

CLAIMS = """
id | str | | name of the claim
source | str | | who published the figure; a key of sources.csv
location | str | | where in the source it stands
kind | str | | what sort of statement it is, and so how it is computed
claim | str | | the statement, in our words
quantity | str | | what it is about; an expression where it is plain arithmetic
tables | str | | published tables that bear on it, separated by semicolons
where | str | | condition on their rows
factor | str | | key that is varied
level | str | | value of the factor that the claim is about
reference | str | | value it is compared with
statistic | str | | each: every row or pair must agree; or what the kind needs beside
low | float | | lower end of what is stated
high | float | | upper end of what is stated
tolerance | float | | allowed beyond either end, from the rounding of the statement
unit | str | | unit of low, high and tolerance
coverage | str | | how many levels of which key a general claim must be seen on
topic | str | | claims of one topic that exclude each other contradict each other
"""
