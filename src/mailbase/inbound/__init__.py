"""Mail that comes in: the SMTP server, the mailbox that is read over IMAP, and the pipe of somebody else's mail server."""
