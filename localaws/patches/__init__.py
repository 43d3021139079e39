"""Each module corrects one difference between MiniStack and AWS that the product depends on, or lets a test choose what AWS would draw."""
