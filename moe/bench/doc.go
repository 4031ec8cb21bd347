// Package bench times layers of experts as a user would run them, whole models of
// them and kernels alone, against what the machine can do at most.
//
// But for models', weights are random, and so is the routing: each call has other
// tokens, and the layers take turns, so that caches hold little of what a call needs. What
// is compared is measured in turns as well: each round visits every cell and
// the limits of the machine in between, and medians are over rounds.
//
// Nothing is reported that is not right: each cell is first held to a float64
// oracle, and to running on kernels without a step down.
package bench
