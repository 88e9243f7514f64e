"""What is done to a guest so that it can live on Magalu Cloud: every remediation, in the order in which they are applied."""
