"""Calls to the engines, counted from outside the product, and what they should be."""
