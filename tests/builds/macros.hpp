// What careless headers define. Include the system's headers first: they too would break.
#pragma once
#include <cassert>
#undef assert

// Windows, Xlib
#define min(a, b) ((a) < (b) ? (a) : (b))
#define max(a, b) ((a) > (b) ? (a) : (b))
#define small char
#define near
#define far
#define interface struct
#define ERROR 0
#define NO_ERROR 0L
#define DELETE 0x10000
#define IN
#define OUT
#define OPTIONAL
#define CONST const
#define VOID void
#define CALLBACK
#define STRICT 1
#define TRUE 1
#define FALSE 0
#define DIFFERENCE 11
#define GetObject GetObjectA
#define SendMessage SendMessageA
#define Bool int
#define Status int
#define None 0L
#define Success 0
#define True 1
#define False 0
#define Always 2
#define Above 0
#define Below 1
#define Complex 0
#define Unsorted 0
#define KeyPress 2
#define FocusIn 9

// assertions
#define assert(x) ((void)(x))
#define check(x) ((void)(x))
#define verify(x) ((void)(x))
#define require(x, y) ((void)(x))
#define ensure(x) ((void)(x))
#define CHECK(x) ((void)(x))
#define REQUIRE(x) ((void)(x))
#define INFO(x) ((void)(x))

// Qt, game engines, Objective-C
#define emit
#define signals public
#define slots
#define foreach(a, b) for (auto a : b)
#define forever for (;;)
#define TEXT(x) L##x
#define PI 3.14f
#define YES 1
#define NO 0
#define nil 0

// Arduino, newlib
#define DEFAULT 1
#define EXTERNAL 0
#define INTERNAL 3
#define HIGH 1
#define LOW 0
#define INPUT 0
#define OUTPUT 1
#define abs(x) ((x) > 0 ? (x) : -(x))
#define round(x) ((long)(x))
#define sq(x) ((x) * (x))
#define bit(b) (1UL << (b))
#define constrain(x, low, high) (x)
#define interrupts() ((void)0)
#define F(x) (x)
#define B0 0
#define B1 1
#define I 1

// old Unix
#define unix 1
#define linux 1
#define major(x) (x)
#define minor(x) (x)
