"""The bundled dialects: one TOML file per exchange."""
