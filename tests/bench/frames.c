/* Run the frames of each Python code object by a C function of its own: callgrind tells these apart.
 *
 * PEP 523 lets an extension run frames. The n-th code object that is met runs by `py_1<n in octal>`. */
#include <Python.h>
#include <stdint.h>

struct _PyInterpreterFrame;
typedef PyObject *(*Run)(PyThreadState *, struct _PyInterpreterFrame *, int);
extern PyObject *_PyEval_EvalFrameDefault(PyThreadState *, struct _PyInterpreterFrame *, int);
extern void _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState *, Run);
extern int _PyCode_GetExtra(PyObject *, Py_ssize_t, void **);
extern int _PyCode_SetExtra(PyObject *, Py_ssize_t, void *);

#define A(M, n) M(n##0) M(n##1) M(n##2) M(n##3) M(n##4) M(n##5) M(n##6) M(n##7)
#define B(M, n) A(M, n##0) A(M, n##1) A(M, n##2) A(M, n##3) A(M, n##4) A(M, n##5) A(M, n##6) A(M, n##7)
#define C(M, n) B(M, n##0) B(M, n##1) B(M, n##2) B(M, n##3) B(M, n##4) B(M, n##5) B(M, n##6) B(M, n##7)
#define ALL(M) C(M, 10) C(M, 11) C(M, 12) C(M, 13) C(M, 14) C(M, 15) C(M, 16) C(M, 17)

#define FUNCTION(n)                                                                         \
  __attribute__((noinline)) static PyObject *py_##n(                                        \
      PyThreadState *thread, struct _PyInterpreterFrame *frame, int raised) {               \
    PyObject *result = _PyEval_EvalFrameDefault(thread, frame, raised);                     \
    __asm__ volatile("" ::: "memory"); /* no jump instead of the call */                    \
    return result;                                                                          \
  }
#define POINTER(n) py_##n,
ALL(FUNCTION)
static const Run functions[] = {ALL(POINTER)};
#define MOST (sizeof functions / sizeof functions[0])

static PyObject *codes; /* in the order of their functions */
static Py_ssize_t extra;

static PyObject *run(PyThreadState *thread, struct _PyInterpreterFrame *frame, int raised) {
  PyObject *code = ((PyObject **)frame)[4]; /* f_code of CPython 3.11 */
  void *number = NULL;
  _PyCode_GetExtra(code, extra, &number);
  if (number == NULL) {
    if (PyList_GET_SIZE(codes) == MOST) return _PyEval_EvalFrameDefault(thread, frame, raised);
    PyList_Append(codes, code);
    number = (void *)PyList_GET_SIZE(codes);
    _PyCode_SetExtra(code, extra, number);
  }
  return functions[(intptr_t)number - 1](thread, frame, raised);
}

static PyObject *start(PyObject *self, PyObject *nothing) {
  extra = _PyEval_RequestCodeExtraIndex(NULL);
  _PyInterpreterState_SetEvalFrameFunc(PyInterpreterState_Get(), run);
  return Py_NewRef(codes);
}

static PyMethodDef methods[] = {
    {"start", start, METH_NOARGS, "Run frames so from now on; return the list of code objects."}, {0}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "frames", NULL, -1, methods};

PyMODINIT_FUNC PyInit_frames(void) {
  codes = PyList_New(0);
  return PyModule_Create(&module);
}
