"""The composition root: the stages in their order (`order`), what they are made of, and what outlives them."""
