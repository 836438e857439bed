//! The Engine API over any byte stream: containers, builds, images, layers.
