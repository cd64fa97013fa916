"""Tests of ca-service: each folder judges it from another side."""
