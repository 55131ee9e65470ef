"""Signing in by an identity provider (OpenID Connect): it takes the place of the password alone."""
