"""MP-SPDZ, in a build of the user's own, as a system under test."""
