"""The promises of the project, each a test."""
