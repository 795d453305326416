// A model as its file describes it: sizes, and where the weights are. Plain data; compiled once.
#pragma once
#include "streamdrnn_cpu.h"

namespace streamdrnn {

enum class FrontEndKind { NONE, RAW, LOG_MEL, MFCC };
enum class HeadKind { NONE, CLASSIFIER, TAGGER, EMBEDDER };  // numbered as in streamdrnn.h

// The arguments of RawWaveform, LogMel or MFCC in streamdrnn/audio/frontends.py; those that a kind lacks are 0.
struct FrontEndDescription {
    FrontEndKind kind;
    int64_t sample_rate, window, win_length, hop_length, n_mels, n_mfcc, deltas;
    double fmin, fmax;
};

// Numbers per frame. Inline functions have no place here: what includes this is compiled per level.
int64_t features_of(const FrontEndDescription &frontend);

// All pointers are to float32 in the layout of torch; those that are optional may be NULL.
struct Description {
    FrontEndDescription frontend;
    int cell;
    int64_t layers;
    const streamdrnn_layer *layer;
    int64_t taps;  // of the fusion; 0 for none
    const float *fusion_weight, *fusion_bias;
    const float *feature_mean, *feature_std;  // (I), of a head
    HeadKind head;
    bool pools_mean;                       // of a classifier: else it reads the latest output
    int64_t outputs;                       // M of a head
    const float *head_weight, *head_bias;  // (M, H), (M)
};

}  // namespace streamdrnn
