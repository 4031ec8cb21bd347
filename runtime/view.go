package runtime

// A Viewer is a Device that computes in the memory of the host.
type Viewer interface {
	Device

	// NewView returns a view of nothing.
	NewView() (View, error)
}

// A View is a buffer that is memory of the host, in turns of different pieces:
// what kernels read and write there is neither copied nor allocated.
type View interface {
	Buffer

	// Show makes the buffer be host, of 4-byte elements at an address that is a
	// multiple of 4, until the next Show; nil for nothing. Launches on what was
	// shown before have been waited for. What the host writes before it enqueues
	// a launch, the launch sees; what a launch writes is there after Wait.
	Show(host []byte)
}
