// Package devicetest is the suite that every device passes: the contract of
// package runtime, and each kernel of a table against package oracle.
//
// Kernels run at sizes that are odd multiples of 16, on work lists that skip
// rows and experts, with weights between bytes that are no weights, and with
// outputs full of NaNs: what a kernel owes it must write, and nothing else.
// Sums are judged by their magnitude, integers and order to the bit, and the
// same launch must give the same bits again.
package devicetest
