"""What the owner's loop waits with."""
