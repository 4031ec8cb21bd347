// Package tune searches the knobs that the specs of families declare for what is
// fastest on a device.
//
// A candidate is the row that a file of specs/tuned would make, compiled for the
// device and timed by package kernels: on packed weights, with the geometry of
// that row, once its outputs are the oracle's. The search keeps a journal, and
// goes on from it after it was ended.
package tune
