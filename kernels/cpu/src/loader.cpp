#include "loader.h"

#include "json.h"

#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace streamdrnn {

int64_t features_of(const FrontEndDescription &frontend) {
    if (frontend.kind == FrontEndKind::RAW) return frontend.window;
    if (frontend.kind == FrontEndKind::LOG_MEL) return frontend.n_mels;
    return frontend.kind == FrontEndKind::MFCC ? frontend.n_mfcc * (1 + frontend.deltas) : 0;
}

namespace {

// The limits of streamdrnn/storage.py, checkpoint.py and audio/frontends.py.
constexpr size_t LARGEST_HEADER = 1 << 20;
constexpr int64_t LARGEST_STATE = 1 << 26, LARGEST_WINDOW = 65536, MOST_FILTERS = 1 << 24;
constexpr int64_t MISSING = -1;  // of what a configuration has to have

constexpr const char *CELLS[] = {"rnn", "gru", "lstm", nullptr};  // by their numbers in streamdrnn_cpu.h
constexpr int64_t GATES[] = {1, 3, 4};
constexpr const char *NETWORKS[] = {"DilatedRNN", nullptr};
constexpr const char *MODELS[] = {"DilatedRNN", "Classifier", "Tagger", "SpeakerEmbedder", nullptr};  // as HeadKind
constexpr const char *FRONTENDS[] = {"RawWaveform", "LogMel", "MFCC", nullptr};  // as FrontEndKind without NONE
constexpr const char *POOLS[] = {"last", "mean", nullptr};
constexpr const char *DTYPES[] = {"F16", "BF16", "F32", "F64", nullptr};
constexpr size_t BYTES[] = {2, 2, 4, 8};

// Memory that is left to std::free.
template <class T> struct Owned {
    Owned() = default;
    Owned(const Owned &) = delete;
    Owned &operator=(const Owned &) = delete;
    ~Owned() { std::free(items); }
    bool take(size_t count) {
        items = count <= SIZE_MAX / sizeof(T) ? static_cast<T *>(std::calloc(count ? count : 1, sizeof(T))) : nullptr;
        return items != nullptr;
    }
    T *items = nullptr;
};

// A string or a number of a file, as a line of a message has room for it.
struct Shown {
    explicit Shown(const Json &value) {
        if (value.kind != Json::STRING && value.kind != Json::NUMBER) {
            std::strcpy(text, "another kind of value");
            return;
        }
        size_t n = 0;
        for (; n < value.size && n < sizeof text - 1; n++)
            text[n] = ' ' <= value.text[n] && value.text[n] <= '~' ? value.text[n] : '?';
        text[n] = 0;
    }
    char text[48];
};

// The first thing that is wrong; nothing after it counts.
class Verdict {
  public:
    Verdict(char *why, size_t room) : why_(why), room_(why ? room : 0) {
        if (room_) *why_ = 0;
    }
    __attribute__((format(printf, 2, 3))) void refuse(const char *format, ...) {
        if (code_) return;
        code_ = STREAMDRNN_BAD_MODEL;
        va_list values;
        va_start(values, format);
        std::vsnprintf(why_, room_, format, values);
        va_end(values);
    }
    void no_memory() { code_ = code_ ? code_ : STREAMDRNN_NO_MEMORY; }
    int code() const { return code_; }
    bool fine() const { return code_ == STREAMDRNN_OK; }

  private:
    char *const why_;
    const size_t room_;
    int code_ = STREAMDRNN_OK;
};

// The members of an object, as a schema asks for them one by one. All answers are in range: where a file's are not, the
// verdict says so, and they are the lowest.
class Members {
  public:
    Members(Verdict &verdict, const Json &object, const char *owner)
        : verdict_(verdict), object_(object), owner_(owner) {
        if (object.kind != Json::OBJECT) verdict.refuse("%s: expected a JSON object", owner);
    }

    // NULL where there is none of this name.
    const Json *find(const char *name) {
        const Json *found = nullptr;
        if (object_.kind != Json::OBJECT) return nullptr;
        for (const Json *key = object_.first(); key < object_.end(); key = key[1].next()) {
            if (!key->is(name)) continue;
            if (found) verdict_.refuse("%s: %s is there twice", owner_, name);
            found = key + 1;
            asked_[count_++ % MOST] = key;
        }
        return found;
    }

    // One of the given words, as its place among them.
    int choice(const char *name, const char *const *words, int64_t otherwise = MISSING) {
        const Json *const value = found(name, otherwise);
        if (!value) return otherwise == MISSING ? 0 : static_cast<int>(otherwise);
        char expected[128] = "";
        for (int i = 0; words[i]; i++) {
            if (value->is(words[i])) return i;
            const size_t length = std::strlen(expected);
            std::snprintf(expected + length, sizeof expected - length, "%s%s", i ? ", " : "", words[i]);
        }
        verdict_.refuse("%s: %s: got %s, expected %s%s", owner_, name, Shown(*value).text, words[1] ? "one of " : "",
                        expected);
        return 0;
    }

    int64_t integer(const char *name, int64_t lowest, int64_t highest, int64_t otherwise = MISSING) {
        const Json *const value = found(name, otherwise);
        if (!value) return otherwise == MISSING ? lowest : otherwise;
        return in_range(*value, name, lowest, highest);
    }

    int64_t in_range(const Json &value, const char *name, int64_t lowest, int64_t highest) {
        int64_t number;
        if (value.integer(&number) && lowest <= number && number <= highest) return number;
        verdict_.refuse("%s: %s: got %s, expected an integer from %lld to %lld", owner_, name, Shown(value).text,
                        static_cast<long long>(lowest), static_cast<long long>(highest));
        return lowest;
    }

    double real(const char *name, double otherwise) {
        const Json *const value = find(name);
        double number = otherwise;
        if (value && !value->real(&number))
            verdict_.refuse("%s: %s: got %s, expected a number", owner_, name, Shown(*value).text);
        return number;
    }

    bool truth(const char *name, bool otherwise) {
        const Json *const value = find(name);
        bool is = otherwise;
        if (value && !value->truth(&is)) verdict_.refuse("%s: %s: expected true or false", owner_, name);
        return is;
    }

    const Json &list(const char *name) {
        static constexpr Json NONE{Json::ARRAY, 1, 0, nullptr};
        const Json *const value = found(name, MISSING);
        if (value && value->kind == Json::ARRAY) return *value;
        verdict_.refuse("%s: %s: expected a list", owner_, name);
        return NONE;
    }

    // The object has to have no other members than those that were asked for.
    void are_all() {
        if (object_.kind != Json::OBJECT) return;
        for (const Json *key = object_.first(); key < object_.end(); key = key[1].next()) {
            bool known = false;
            for (int i = 0; i < count_ && i < MOST; i++) known = known || asked_[i] == key;
            if (!known) verdict_.refuse("%s: no part of the file of a %s", Shown(*key).text, owner_);
        }
    }

  private:
    const Json *found(const char *name, int64_t otherwise) {
        const Json *const value = find(name);
        if (!value && otherwise == MISSING) verdict_.refuse("%s: %s is missing", owner_, name);
        return value;
    }

    Verdict &verdict_;
    const Json &object_;
    const char *const owner_;
    static constexpr int MOST = 16;
    const Json *asked_[MOST];
    int count_ = 0;
};

template <class T> T little_endian(const unsigned char *bytes) {
    T value = 0;
    for (size_t i = 0; i < sizeof(T); i++) value = static_cast<T>(value | static_cast<T>(bytes[i]) << (8 * i));
    return value;
}

template <class To, class From> To bits_as(From from) {
    static_assert(sizeof(To) == sizeof(From), "one is as large as the other");
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

float from_half(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, rest = half & 0x7fff;
    if (rest < 0x400) return (sign ? -1.0f : 1.0f) * static_cast<float>(rest) * 0x1p-24f;  // subnormal
    const uint32_t higher = rest < 0x7c00 ? 127 - 15 : 255 - 31;  // float32's exponents, infinity's among them
    return bits_as<float>(sign | ((rest << 13) + (higher << 23)));
}

// A tensor of the file: where it is, and its shape, 0 beyond its dimensions.
struct Tensor {
    const Json *name;
    int64_t shape[3], begin, end;
    bool used;
};

int compare(const Json &a, const char *b, size_t size) {
    const int order = std::memcmp(a.text, b, a.size < size ? a.size : size);
    return order ? order : (a.size > size) - (a.size < size);
}

int by_name(const void *a, const void *b) {
    const Json &other = *static_cast<const Tensor *>(b)->name;
    return compare(*static_cast<const Tensor *>(a)->name, other.text, other.size);
}

int by_place(const void *a, const void *b) {
    const int64_t left = static_cast<const Tensor *>(a)->begin, right = static_cast<const Tensor *>(b)->begin;
    return (left > right) - (left < right);
}

void write_shape(const int64_t *shape, char *text, size_t room) {
    size_t n = 0;
    for (int i = 0; i < 3 && shape[i]; i++)
        n += static_cast<size_t>(
            std::snprintf(text + n, room - n, "%s%lld", i ? ", " : "", static_cast<long long>(shape[i])));
}

class Loader {
  public:
    Loader(const void *file, size_t size, char *why, size_t room)
        : file_(static_cast<const unsigned char *>(file)), size_(size), verdict_(why, room) {}

    int load(Description *description, streamdrnn_layer **layer, float **weights) {
        if (header()) {
            metadata();
            tensors();
        }
        if (verdict_.fine()) configuration();
        if (verdict_.fine()) read_weights();
        if (!verdict_.fine()) return verdict_.code();
        *description = made_, *layer = layer_.items, *weights = weights_.items;
        layer_.items = nullptr, weights_.items = nullptr;
        return STREAMDRNN_OK;
    }

  private:
    // ---- the file: a length, a header of JSON, the tensors' bytes

    bool header() {
        const uint64_t length = size_ < 8 ? 0 : little_endian<uint64_t>(file_);
        if (size_ < 8 || length > size_ - 8)
            verdict_.refuse("damaged or not a safetensors file");
        else if (length > LARGEST_HEADER)
            verdict_.refuse("damaged or not a safetensors file of ours (a header of more than 1 MiB)");
        if (!verdict_.fine()) return false;
        const size_t header_size = static_cast<size_t>(length);
        if (!text_.take(header_size)) return verdict_.no_memory(), false;
        std::memcpy(text_.items, file_ + 8, header_size);
        data_ = file_ + 8 + header_size;
        data_size_ = static_cast<int64_t>(size_ - 8 - header_size);
        return parsed(text_.items, header_size, "the header", &header_.items);
    }

    bool parsed(char *text, size_t size, const char *name, Json **values) {
        if (!read_json(text, size, values))
            verdict_.refuse("%s: damaged JSON", name);
        else if (!*values)
            verdict_.no_memory();
        else if ((*values)->kind != Json::OBJECT)
            verdict_.refuse("%s: expected a JSON object", name);
        return verdict_.fine();
    }

    void tensors() {
        const Json &root = *header_.items;
        int64_t members = 0;
        for (const Json *key = root.first(); key < root.end(); key = key[1].next()) members++;
        if (!tensor_.take(static_cast<size_t>(members))) return verdict_.no_memory();
        for (const Json *key = root.first(); key < root.end(); key = key[1].next())
            if (!key->is("__metadata__")) tensor(*key, key[1], tensor_.items[count_++]);
        // They fill the file one after the other: so what they take is bounded by its size.
        std::qsort(tensor_.items, static_cast<size_t>(count_), sizeof(Tensor), by_place);
        int64_t end = 0;
        for (int64_t i = 0; i < count_; i++) {
            if (tensor_.items[i].begin != end)
                verdict_.refuse("damaged: tensors overlap, or there are gaps between them");
            end = tensor_.items[i].end;
        }
        if (end != data_size_) verdict_.refuse("damaged: the tensors are not as long as the file");
        std::qsort(tensor_.items, static_cast<size_t>(count_), sizeof(Tensor), by_name);
        for (int64_t i = 1; i < count_; i++)
            if (by_name(&tensor_.items[i - 1], &tensor_.items[i]) == 0)
                verdict_.refuse("%s: is there twice", Shown(*tensor_.items[i].name).text);
    }

    void tensor(const Json &key, const Json &value, Tensor &made) {
        const Shown name(key);
        Members members(verdict_, value, name.text);
        const int dtype = members.choice("dtype", DTYPES);
        if (dtype_ >= 0 && dtype != dtype_) verdict_.refuse("the weights are of different dtypes");
        dtype_ = dtype;
        made.name = &key;
        int64_t size = static_cast<int64_t>(BYTES[dtype]);
        int dimensions = 0;
        const Json &shape = members.list("shape");
        for (const Json *each = shape.first(); each < shape.end(); each = each->next(), dimensions++) {
            if (dimensions == 3) return verdict_.refuse("%s: expected at most 3 dimensions", name.text);
            const int64_t length = members.in_range(*each, "shape", 1, INT64_MAX);
            made.shape[dimensions] = length;
            if (__builtin_mul_overflow(size, length, &size)) return verdict_.refuse("%s: is too large", name.text);
        }
        const Json &offsets = members.list("data_offsets");
        if (offsets.count != 3) return verdict_.refuse("%s: expected two data_offsets", name.text);
        made.begin = members.in_range(offsets.first()[0], "data_offsets", 0, data_size_);
        made.end = members.in_range(offsets.first()[1], "data_offsets", made.begin, data_size_);
        if (made.end - made.begin != size) verdict_.refuse("%s: is not as long as its shape asks for", name.text);
        members.are_all();
    }

    void metadata() {
        Members root(verdict_, *header_.items, "the header");
        const Json *const found = root.find("__metadata__");
        if (!found) return verdict_.refuse("not a model file of streamdrnn");
        Members members(verdict_, *found, "__metadata__");
        const Json *const format = members.find("format"), *const version = members.find("version");
        const Json *const config = members.find("config");
        if (!format || !format->is("streamdrnn-model")) return verdict_.refuse("not a model file of streamdrnn");
        if (!version || !version->is("1")) return verdict_.refuse("of another version; this library reads version 1");
        if (!config || config->kind != Json::STRING) return verdict_.refuse("config: is missing");
        parsed(config->text, config->size, "config", &config_.items);
    }

    // ---- the configuration

    void configuration() {
        Members members(verdict_, *config_.items, "model");
        made_.head = static_cast<HeadKind>(members.choice("kind", MODELS));
        if (made_.head == HeadKind::NONE) return network(*config_.items);
        if (const Json *const rnn = members.find("rnn"))
            network(*rnn);
        else
            verdict_.refuse("rnn: is missing");
        const Json *const frontend = members.find("frontend");
        if (!frontend)
            verdict_.refuse("frontend: is missing");
        else if (frontend->kind != Json::NOTHING)
            front_end(*frontend);
        const char *const outputs[] = {"", "num_classes", "num_outputs", "embedding_size"};
        made_.outputs = members.integer(outputs[static_cast<int>(made_.head)], 1, INT32_MAX);
        if (made_.head == HeadKind::CLASSIFIER) made_.pools_mean = members.choice("pool", POOLS, 0) == 1;
        members.are_all();
    }

    void network(const Json &config) {
        Members members(verdict_, config, NETWORKS[0]);
        members.choice("kind", NETWORKS, 0);  // without one it is of a release that knew one only
        made_.cell = members.choice("cell", CELLS, STREAMDRNN_GRU);
        bias_ = members.truth("bias", true);
        const int64_t inputs = members.integer("input_size", 1, INT32_MAX);
        const Json &sizes = members.list("hidden_size"), &dilations = members.list("dilations");
        const double dropout = members.real("dropout", 0.0);
        if (!(0 <= dropout && dropout < 1)) verdict_.refuse("dropout: expected a probability from 0 to below 1");
        if (members.truth("batch_first", false) && made_.head != HeadKind::NONE)
            verdict_.refuse("batch_first: heads are time first, expected false");
        if (sizes.count != dilations.count || sizes.count < 2)
            return verdict_.refuse("hidden_size, dilations: expected one of each for every layer");
        made_.layers = sizes.count - 1;
        if (!layer_.take(static_cast<size_t>(made_.layers))) return verdict_.no_memory();
        made_.layer = layer_.items;
        int64_t state = 1, below = inputs;  // numbers that a stream carries; its clock is one
        for (int64_t l = 0; l < made_.layers; l++) {
            const int64_t H = members.in_range(sizes.first()[l], "hidden_size", 1, LARGEST_STATE);
            const int64_t d = members.in_range(dilations.first()[l], "dilations", 1, LARGEST_STATE);
            layer_.items[l] = {below, H, d, nullptr, nullptr, nullptr, nullptr};
            below = H;
            state += H * d * (made_.cell == STREAMDRNN_LSTM ? 2 : 1);
            if (state > LARGEST_STATE || !verdict_.fine()) break;
        }
        if (members.truth("fuse", layer_.items[0].dilation > 1)) {
            made_.taps = layer_.items[0].dilation;
            state += made_.taps * below;
        }
        if (state > LARGEST_STATE)
            verdict_.refuse("expected at most %lld numbers in the state of a stream",
                            static_cast<long long>(LARGEST_STATE));
        members.are_all();
    }

    void front_end(const Json &config) {
        Members members(verdict_, config, "front-end");
        FrontEndDescription &made = made_.frontend;
        made.kind = static_cast<FrontEndKind>(1 + members.choice("kind", FRONTENDS));
        made.sample_rate = members.integer("sample_rate", 1, INT32_MAX, 16000);
        if (made.kind == FrontEndKind::RAW) {
            made.window = made.hop_length = members.integer("frame_length", 1, LARGEST_WINDOW, 1);
        } else {
            made.window = members.integer("n_fft", 2, LARGEST_WINDOW, 512);
            made.win_length = members.integer("win_length", 1, made.window, 400);
            made.hop_length = members.integer("hop_length", 1, made.window, 160);
            const int64_t most = MOST_FILTERS / made.window;
            made.n_mels = members.integer("n_mels", 1, most < made.window ? most : made.window, 40);
            const double highest = static_cast<double>(made.sample_rate) / 2;
            made.fmin = members.real("fmin", 20.0);
            made.fmax = members.real("fmax", highest);
            if (!(0 <= made.fmin && made.fmin < made.fmax && made.fmax <= highest))
                verdict_.refuse("fmin, fmax: expected 0 <= fmin < fmax <= half of sample_rate");
        }
        if (made.kind == FrontEndKind::MFCC) {
            made.n_mfcc = members.integer("n_mfcc", 1, made.n_mels, 20);
            made.deltas = members.integer("deltas", 0, 2, 0);
        }
        members.are_all();
        if (verdict_.fine() && features_of(made) != made_.layer[0].input_size)
            verdict_.refuse("input_size: got %lld, expected the front-end's %lld features",
                            static_cast<long long>(made_.layer[0].input_size),
                            static_cast<long long>(features_of(made)));
    }

    // ---- the weights

    void read_weights() {
        if (!weights_.take(static_cast<size_t>(data_size_) / BYTES[dtype_ < 0 ? 0 : dtype_]))
            return verdict_.no_memory();
        const bool head = made_.head != HeadKind::NONE;
        const char *const prefix = head ? "rnn." : "";
        char name[64];
        for (int64_t l = 0; l < made_.layers && verdict_.fine(); l++) {
            streamdrnn_layer &layer = layer_.items[l];
            const int64_t rows = GATES[made_.cell] * layer.hidden_size;
            const auto named = [&](const char *weight) {
                std::snprintf(name, sizeof name, "%s%s_l%lld", prefix, weight, static_cast<long long>(l));
                return name;
            };
            layer.w_ih = weight(named("weight_ih"), rows, layer.input_size);
            layer.w_hh = weight(named("weight_hh"), rows, layer.hidden_size);
            if (bias_) layer.b_ih = weight(named("bias_ih"), rows);
            if (bias_) layer.b_hh = weight(named("bias_hh"), rows);
        }
        const int64_t inputs = made_.layer[0].input_size, H = made_.layer[made_.layers - 1].hidden_size;
        if (made_.taps) {
            made_.fusion_weight = weight(head ? "rnn.fusion_weight" : "fusion_weight", H, H, made_.taps);
            if (bias_) made_.fusion_bias = weight(head ? "rnn.fusion_bias" : "fusion_bias", H);
        }
        if (head) {
            const bool embeds = made_.head == HeadKind::EMBEDDER;
            made_.feature_mean = weight("feature_mean", inputs);
            made_.feature_std = weight("feature_std", inputs);
            // A NaN that came of another deviation would stay in a stream for ever.
            for (int64_t i = 0; verdict_.fine() && i < inputs; i++)
                if (!(made_.feature_mean[i] - made_.feature_mean[i] == 0 && made_.feature_std[i] > 0 &&
                      made_.feature_std[i] - made_.feature_std[i] == 0))
                    verdict_.refuse("feature_mean, feature_std: expected finite numbers, and deviations above 0");
            made_.head_weight = weight(embeds ? "projection.weight" : "output.weight", made_.outputs, H);
            made_.head_bias = weight(embeds ? "projection.bias" : "output.bias", made_.outputs);
        }
        for (int64_t i = 0; i < count_; i++)
            if (!tensor_.items[i].used)
                verdict_.refuse("%s: the model has no such weight", Shown(*tensor_.items[i].name).text);
    }

    // A copy of a tensor of this name and shape, as float32.
    const float *weight(const char *name, int64_t rows, int64_t columns = 0, int64_t depth = 0) {
        Tensor *const found = named(name);
        const int64_t expected[3] = {rows, columns, depth};
        if (!found) return verdict_.refuse("%s: is missing", name), nullptr;
        if (std::memcmp(found->shape, expected, sizeof expected) != 0) {
            char has[64] = "", wants[64] = "";
            write_shape(found->shape, has, sizeof has);
            write_shape(expected, wants, sizeof wants);
            return verdict_.refuse("%s: expected shape (%s), got (%s)", name, wants, has), nullptr;
        }
        found->used = true;
        float *const made = weights_.items + taken_;
        const unsigned char *const end = data_ + found->end;
        for (const unsigned char *from = data_ + found->begin; from < end; from += BYTES[dtype_])
            weights_.items[taken_++] = number(from);
        return made;
    }

    float number(const unsigned char *from) const {
        switch (dtype_) {
            case 0:
                return from_half(little_endian<uint16_t>(from));
            case 1:
                return bits_as<float>(static_cast<uint32_t>(little_endian<uint16_t>(from)) << 16);
            case 2:
                return bits_as<float>(little_endian<uint32_t>(from));
            default:
                return static_cast<float>(bits_as<double>(little_endian<uint64_t>(from)));
        }
    }

    Tensor *named(const char *name) {
        int64_t low = 0, high = count_;
        while (low < high) {
            const int64_t middle = low + (high - low) / 2;
            const int order = compare(*tensor_.items[middle].name, name, std::strlen(name));
            if (order == 0) return &tensor_.items[middle];
            (order < 0 ? low : high) = order < 0 ? middle + 1 : middle;
        }
        return nullptr;
    }

    const unsigned char *const file_;
    const size_t size_;
    Verdict verdict_;
    Owned<char> text_;
    Owned<Json> header_, config_;
    const unsigned char *data_ = nullptr;
    int64_t data_size_ = 0;
    Owned<Tensor> tensor_;
    int64_t count_ = 0;
    int dtype_ = -1;
    Description made_{};
    bool bias_ = true;
    Owned<streamdrnn_layer> layer_;
    Owned<float> weights_;
    size_t taken_ = 0;
};

}  // namespace

LoadedModel::~LoadedModel() {
    std::free(layer_);
    std::free(weights_);
}

int LoadedModel::load(const void *file, size_t size, char *why, size_t room) {
    return Loader(file, size, why, room).load(&description_, &layer_, &weights_);
}

}  // namespace streamdrnn
