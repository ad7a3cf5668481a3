"""The light side at work: a session runs an exported model, an estimator finds people's joints with it. No torch."""
