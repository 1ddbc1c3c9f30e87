"""Questions of a question-and-answer site: what their texts say, and which of them can become a terminal task. Pure."""
