"""The service judged by programs we did not write."""
