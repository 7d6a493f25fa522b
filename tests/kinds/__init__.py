"""What each kind promises, tried on real databases."""

import pytest

pytest.register_assert_rewrite("tests.kinds.bench")
