"""The model proxy: agents' dialects in, token ids to the policy's engine, and what was sampled kept id for id."""
