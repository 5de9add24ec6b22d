"""A model behind defences, served: whoever can talk to an OpenAI-compatible chat server talks to it.

`requests` is what may be asked and how answers are written, `answers` has them made by the chain that `vlmend eval
--defence` uses, and `server` stands at the port.
"""
