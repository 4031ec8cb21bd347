package metal

// OpenOn opens the GPU of a runtime.
var OpenOn = open
