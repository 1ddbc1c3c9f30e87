"""The policy engines: token ids in and out, each behind `engine.Engine`."""
