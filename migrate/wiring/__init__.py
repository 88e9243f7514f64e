"""The only folder that knows which adapter, remediation, guest and prover there is, and puts them together.

Nothing is imported here: a command loads what it needs and starts at once.
"""
