#include "json.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace streamdrnn {
namespace {

constexpr int DEEPEST = 16;  // a model's file needs 3

bool is_digit(char c) { return '0' <= c && c <= '9'; }

class Parser {
  public:
    Parser(char *text, size_t size, Json *values) : at_(text), end_(text + size), free_(values) {}

    bool document() {
        if (!value(DEEPEST)) return false;
        skip_space();
        return at_ == end_;
    }

  private:
    bool value(int depth) {
        skip_space();
        if (at_ == end_ || depth == 0) return false;
        Json &made = *free_++;
        made = {Json::NOTHING, 1, 0, at_};
        switch (*at_) {
            case '{':
                made.kind = Json::OBJECT;
                return values_in(made, '}', depth);
            case '[':
                made.kind = Json::ARRAY;
                return values_in(made, ']', depth);
            case '"':
                made.kind = Json::STRING;
                return string(made);
            case 't':
                made.kind = Json::BOOLEAN;
                return word("true");
            case 'f':
                made.kind = Json::BOOLEAN;
                return word("false");
            case 'n':
                return word("null");
            default:
                made.kind = Json::NUMBER;
                return number(made);
        }
    }

    bool values_in(Json &made, char closing, int depth) {
        at_++;
        skip_space();
        if (!take(closing)) {
            do {
                if (made.kind == Json::OBJECT) {
                    skip_space();
                    if (at_ == end_ || *at_ != '"' || !value(depth - 1)) return false;
                    skip_space();
                    if (!take(':')) return false;
                }
                if (!value(depth - 1)) return false;
                skip_space();
            } while (take(','));
            if (!take(closing)) return false;
        }
        made.count = static_cast<uint32_t>(free_ - &made);
        return true;
    }

    bool string(Json &made) {
        made.text = ++at_;
        char *to = at_;  // what is decoded is never longer than what it is decoded from
        while (!take('"')) {
            if (at_ == end_ || static_cast<unsigned char>(*at_) < ' ') return false;
            if (*at_ != '\\')
                *to++ = *at_++;
            else if (!escape(&to))
                return false;
        }
        made.size = static_cast<uint32_t>(to - made.text);
        return true;
    }

    bool escape(char **to) {
        static constexpr char LETTERS[] = "\"\\/bfnrt", MEANINGS[] = "\"\\/\b\f\n\r\t";
        if (end_ - at_ < 2) return false;
        const char letter = at_[1];
        at_ += 2;
        if (letter == 'u') {
            uint32_t code, low;
            if (!four_digits(&code)) return false;
            if (0xd800 <= code && code < 0xe000) {  // the first half of a pair
                if (code >= 0xdc00 || !take('\\') || !take('u') || !four_digits(&low)) return false;
                if (low < 0xdc00 || low >= 0xe000) return false;
                code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
            }
            *to = utf8(code, *to);
            return true;
        }
        const char *const known = letter ? std::strchr(LETTERS, letter) : nullptr;
        if (known) *(*to)++ = MEANINGS[known - LETTERS];
        return known != nullptr;
    }

    bool four_digits(uint32_t *code) {
        if (end_ - at_ < 4) return false;
        *code = 0;
        for (const char *const end = at_ + 4; at_ < end; at_++) {
            const char small = static_cast<char>(*at_ | 0x20);
            const bool hexadecimal = 'a' <= small && small <= 'f';
            if (!is_digit(*at_) && !hexadecimal) return false;
            *code = *code << 4 | static_cast<uint32_t>(hexadecimal ? small - 'a' + 10 : *at_ - '0');
        }
        return true;
    }

    static char *utf8(uint32_t code, char *to) {
        if (code < 0x80) {
            *to++ = static_cast<char>(code);
            return to;
        }
        const int more = code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;  // bytes after the first
        static constexpr int FIRST[] = {0, 0xc0, 0xe0, 0xf0};
        *to++ = static_cast<char>(FIRST[more] | static_cast<int>(code >> (6 * more)));
        for (int left = more - 1; left >= 0; left--) *to++ = static_cast<char>(0x80 | ((code >> (6 * left)) & 0x3f));
        return to;
    }

    bool number(Json &made) {
        take('-');
        if (!take('0') && !digits()) return false;
        if (take('.') && !digits()) return false;
        if (take('e') || take('E')) {
            if (!take('+')) take('-');
            if (!digits()) return false;
        }
        made.size = static_cast<uint32_t>(at_ - made.text);
        return true;
    }

    bool digits() {
        const char *const begin = at_;
        while (at_ < end_ && is_digit(*at_)) at_++;
        return at_ > begin;
    }

    bool word(const char *letters) {
        while (*letters)
            if (!take(*letters++)) return false;
        return true;
    }

    bool take(char c) {
        const bool there = at_ < end_ && *at_ == c;
        at_ += there;
        return there;
    }

    void skip_space() {
        while (at_ < end_ && (*at_ == ' ' || *at_ == '\n' || *at_ == '\r' || *at_ == '\t')) at_++;
    }

    char *at_, *const end_;
    Json *free_;
};

}  // namespace

bool Json::is(const char *string) const {
    return kind == STRING && size == std::strlen(string) && std::memcmp(text, string, size) == 0;
}

bool Json::truth(bool *value) const {
    *value = *text == 't';
    return kind == BOOLEAN;
}

bool Json::integer(int64_t *value) const {
    if (kind != NUMBER) return false;
    const bool negative = *text == '-';
    int64_t n = 0;
    for (const char *at = text + negative; at < text + size; at++)
        if (!is_digit(*at) || __builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, *at - '0', &n))
            return false;
    *value = negative ? -n : n;
    return true;
}

// strtod would read by the rules of the program's language, which may want a comma.
bool Json::real(double *value) const {
    if (kind != NUMBER) return false;
    const char *at = text + (*text == '-'), *const end = text + size;
    uint64_t mantissa = 0;
    int64_t power = 0;  // the number is mantissa 10**power
    for (bool fraction = false; at < end && (is_digit(*at) || *at == '.'); at++) {
        if (*at == '.') {
            fraction = true;
        } else {
            if (mantissa >= UINT64_MAX / 10) return false;
            mantissa = mantissa * 10 + static_cast<uint64_t>(*at - '0');
            power -= fraction;
        }
    }
    if (at < end) {
        const bool negative = at[1] == '-';
        int64_t exponent = 0;
        for (at += at[1] == '-' || at[1] == '+' ? 2 : 1; at < end; at++)
            if (exponent < 1000) exponent = exponent * 10 + (*at - '0');
        power += negative ? -exponent : exponent;
    }
    if (power < -38) return false;
    for (; power > 0 && mantissa; power--)
        if (__builtin_mul_overflow(mantissa, uint64_t{10}, &mantissa)) return false;
    // mantissa / 10**-power by long division, to 64 bits from the first that is set; the last one is also set if anything
    // is left. Their conversion rounds once.
    __extension__ typedef unsigned __int128 Wide;
    Wide divisor = 1, rest = 0;
    for (; power < 0; power++) divisor *= 10;
    uint64_t quotient = 0;
    int shift = 64;
    while (mantissa && (shift > 0 || !(quotient >> 63))) {
        shift--;
        rest = rest * 2 + (shift >= 0 ? mantissa >> shift & 1 : 0);
        quotient = quotient * 2 + (rest >= divisor);
        if (rest >= divisor) rest -= divisor;
    }
    if (rest) quotient |= 1;
    const double size_of_it = std::ldexp(static_cast<double>(quotient), shift < 0 ? shift : 0);
    *value = *text == '-' ? -size_of_it : size_of_it;
    return true;
}

bool read_json(char *text, size_t size, Json **values) {
    size_t most = 1;  // every other value comes after one of these
    for (size_t i = 0; i < size; i++) most += text[i] == ',' || text[i] == ':' || text[i] == '[' || text[i] == '{';
    *values = static_cast<Json *>(std::malloc(most * sizeof(Json)));
    if (!*values || Parser(text, size, *values).document()) return true;
    std::free(*values);
    *values = nullptr;
    return false;
}

}  // namespace streamdrnn
