"""What ``bnexp doctor`` looks at. It imports nothing heavy, and works if torch, torchvision or wandb is broken or missing."""
