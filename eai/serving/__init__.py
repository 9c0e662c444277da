"""Traffic for a server that speaks the OpenAI protocol: sent at a stated load, streamed back, every token with its time. Knows no watts.

                 ramp            window              drain
    requests  |--- ---|----- --|-- ----- ---- --|- ---|
    counted             tokens that arrive in it        nothing new is sent

endpoint   where the server is, and the key it wants     stream    one event of a streamed reply
reply      what one request produced, and when           client    one request: sent, streamed, retried, timed
dialect    how a reply of fixed length is asked for      prompt    texts of a wanted number of tokens
session    a server that was spoken to                   arrivals  when the requests of an open load are due
traffic    a load kept up on a thread of its own         tally     what happened between two instants
fake       a server of known behaviour, for tests
"""
