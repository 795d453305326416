// JSON from files that are not trusted. Compiled once, without the C++ library.
#pragma once
#include <cstddef>
#include <cstdint>

namespace streamdrnn {

// A value of a document. All of them are one array, in the order of the text: a value comes before those in it, and the
// members of an object are a string and a value in turn.
struct Json {
    enum Kind : uint32_t { NOTHING, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT };

    Kind kind;
    uint32_t count;  // values from this one to its last, itself included
    uint32_t size;   // of the text
    char *text;      // a string's characters without their escapes; of others where they begin

    bool is(const char *string) const;
    // These are false where it is of another kind, or out of range. A double is the nearest one; it has at most 19 digits
    // and is no smaller than 1e-38.
    bool truth(bool *value) const;
    bool integer(int64_t *value) const;
    bool real(double *value) const;

    const Json *first() const { return this + 1; }
    const Json *next() const { return this + count; }
    const Json *end() const { return this + count; }
};

// Read a text, which is decoded in place, and at most 2**31 bytes long. False where it is no JSON, or nested deeply;
// else the values, for std::free to take back, or NULL when there is no memory.
bool read_json(char *text, size_t size, Json **values);

}  // namespace streamdrnn
