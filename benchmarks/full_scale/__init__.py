"""What the benchmark `mix_full_scale` is made of: its input, its recipe, its measuring and its checks."""
