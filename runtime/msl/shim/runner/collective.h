// What the operations of a simdgroup need of the scheduler.
#pragma once

#include "runtime.h"

namespace msl {

// Lets another fiber run until this one is runnable. Its state says what it waits for.
void block();

// Makes f runnable if it waits in state from.
void wake(Fiber* f, State from);

// Makes the lanes of mask runnable after an operation.
void wake_lanes(Simdgroup&, unsigned simd, unsigned mask);

// Does the operation that all lanes that are left have arrived at.
void complete(Simdgroup&, unsigned simd);

}  // namespace msl
