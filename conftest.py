"""Settings that must be in place before scipy is imported."""

import os

# Without it scikit-learn skips the array API part of check_estimator.
os.environ["SCIPY_ARRAY_API"] = "1"
