"""Mutations become changes, changes become deliveries: the Faust app, its agents and the pure functions they call."""
