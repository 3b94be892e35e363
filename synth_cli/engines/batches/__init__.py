"""The two halves of a batch's life: how it is opened, and how what came of it is collected."""
