//! Fakes and fixtures for tests of the upper floors.
