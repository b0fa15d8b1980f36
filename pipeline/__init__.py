"""Pairmill: a factory for RLHF data sets, each stage a content-addressed DVC step."""
