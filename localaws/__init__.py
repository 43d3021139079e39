"""A local AWS without Docker: MiniStack with corrections, AWS's own Lambda runtime client, and the real CDK CLI.

`aws.LocalAws` starts and stops it and deploys to it; `python -m localaws` is the emulator's process; `patches/` holds one module for each
difference from AWS that this product depends on.
"""
