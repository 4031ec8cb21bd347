// C++ that Metal does not have.
#include <metal_stdlib>
using namespace metal;

float counter;  // want "program scope"
float table[4];  // want "program scope"
constant float numbers[2] = {0.5, 1.5};

inline int factorial(int n) { return n < 2 ? 1 : n * factorial(n - 1); }  // want "recursion is not allowed in Metal: factorial calls factorial"
int odd(int n);  // want "recursion is not allowed in Metal: odd calls even calls odd"
inline int even(int n) { return n == 0 ? 1 : odd(n - 1); }
inline int odd(int n) { return n == 0 ? 0 : even(n - 1); }

struct Base {
  virtual int f() { return 1; }  // want "virtual"
};

kernel void forbidden(device float* out [[buffer(0)]], uint t [[thread_position_in_grid]]) {
  double d = 1.0;  // want "double"
  auto f = [](float x) { return x; };  // want "lambda"
  if (t == 1) goto end;  // want "goto"
  if (t == 2) throw 1;  // want "throw"
  out[t] = f(float(d)) + numbers[0] + float(factorial(3) + even(2));
end:
  thread float* p = new float;  // want "new"
}
