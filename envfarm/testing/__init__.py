"""Fakes, factories and the provider conformance suite, for the tests of this project and of others."""
