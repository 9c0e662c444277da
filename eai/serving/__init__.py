"""Traffic for a server that speaks the OpenAI protocol: sent at a stated load, streamed back, every token with its time.

                 ramp            window              drain
    requests  |--- ---|----- --|-- ----- ---- --|- ---|
    counted             tokens that arrive in it        nothing new is sent

client     where the server is, one request to it, and the reply with its times
session    a server that was spoken to: its model, its dialect, prompts of a wanted length
traffic    a load kept up on a thread of its own, and what happened in it between two instants
served     the server as a system under test: where it runs, the window around it, whose energy is billed

All but the last know no watts.
"""
