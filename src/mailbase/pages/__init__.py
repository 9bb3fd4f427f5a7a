"""The public pages as an owner has them: words, colours, logo, templates of their own; what ``web`` answers with."""
