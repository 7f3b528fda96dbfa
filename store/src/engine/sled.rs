//! The second engine: sled 0.34.7, made honest.
