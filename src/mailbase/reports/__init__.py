"""What comes back by mail: bounces, complaints, automatic answers. Pure: bytes in, findings out; no database, no network."""
