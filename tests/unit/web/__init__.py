"""What web promises: every reply and refusal, through Flask's test client, over small fakes."""
