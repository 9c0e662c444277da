"""The columns of the table of loads, one line a column: what `analyze.load` makes of the windows of servers."""

LOADS = """
server | str | | what runs there, as stated
traffic | str | | closed:N, N requests always in flight; open:R, R requests a second that arrive as a Poisson process
traffic_level | float | | N or R of the traffic
n_blocks | int | | blocks with at least one usable window
requests_per_s | float | 1/s | requests completed a second
energy_j_per_token | float | J | energy per output token
energy_j_per_token_low | float | J | lower end of the 95 % t interval of block means on the log scale
energy_j_per_token_high | float | J | upper end of the same
energy_j_per_request | float | J | energy per request
energy_j_per_request_low | float | J | lower end of the 95 % t interval of block means on the log scale
energy_j_per_request_high | float | J | upper end of the same
throughput_tok_s | float | tok/s | output tokens per second
throughput_tok_s_low | float | tok/s | lower end
throughput_tok_s_high | float | tok/s | upper end
in_flight_mean | float | | mean number of requests that were due and had not ended
ttft_s | float | s | time to first token; geometric mean over blocks of the windows' medians
ttft_s_low | float | s | lower end of the 95 % t interval of block means on the log scale
ttft_s_high | float | s | upper end of the same
ttft_p95_s | float | s | 95th percentile of the time to first token; geometric mean over blocks
ttft_p95_s_low | float | s | lower end of the 95 % t interval of block means on the log scale
ttft_p95_s_high | float | s | upper end of the same
itl_s | float | s | inter-token latency; geometric mean over blocks of the windows' medians
itl_s_low | float | s | lower end of the 95 % t interval of block means on the log scale
itl_s_high | float | s | upper end of the same
itl_p95_s | float | s | 95th percentile of the inter-token latency; geometric mean over blocks
itl_p95_s_low | float | s | lower end of the 95 % t interval of block means on the log scale
itl_p95_s_high | float | s | upper end of the same
latency_s | float | s | time of a request from when it was due to the end of its reply; geometric mean over blocks of the windows' medians
latency_s_low | float | s | lower end of the 95 % t interval of block means on the log scale
latency_s_high | float | s | upper end of the same
latency_p95_s | float | s | 95th percentile of the time of a request; geometric mean over blocks
latency_p95_s_low | float | s | lower end of the 95 % t interval of block means on the log scale
latency_p95_s_high | float | s | upper end of the same
requests | int | | requests completed in all usable windows
requests_failed | int | | requests that failed in the same
flags | list | | remarks of any of the windows
boundary | str | | what the energy covers
basis | str | | where the energy comes from
"""
