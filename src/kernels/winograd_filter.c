/* Filters, and their gradients, between taps and Winograd's positions (winograd.h): a filter a lane. */
#include "kernels/winograd.h"

#include "kernels/isa.h"

enum { MOST = 6 };

typedef struct filter_transform {
    int rows;
    double g[MOST][3];
} filter_transform;
#define FILTER_TRANSFORM(m, points) {m + 2, BF_WITH_POINTS(BF_G_##m, points)}
static const filter_transform f2 = FILTER_TRANSFORM(2, BF_POINTS_F2), f4 = FILTER_TRANSFORM(4, BF_POINTS_F4), f2x4 = FILTER_TRANSFORM(4, BF_POINTS_F2X4);
static const filter_transform *const down_of[BF_ALGORITHM_COUNT] = {[BF_F2] = &f2, [BF_F2X4] = &f2, [BF_F4] = &f4};
static const filter_transform *const along_of[BF_ALGORITHM_COUNT] = {[BF_F2] = &f2, [BF_F2X4] = &f2x4, [BF_F4] = &f4};

void BF_ISA_NAME(winograd_filter)(bf_algorithm algorithm, const double taps[9][BF_BLOCK], float positions[][BF_BLOCK])
{
    const filter_transform *down = down_of[algorithm], *along = along_of[algorithm];
    for (int i = 0; i < down->rows; i++) {
        double row[3][BF_BLOCK];
        for (int k = 0; k < 3; k++)
            for (int c = 0; c < BF_BLOCK; c++) row[k][c] = down->g[i][0] * taps[k][c] + down->g[i][1] * taps[3 + k][c] + down->g[i][2] * taps[6 + k][c];
        for (int j = 0; j < along->rows; j++)
            for (int c = 0; c < BF_BLOCK; c++)
                positions[i * along->rows + j][c] = (float)(along->g[j][0] * row[0][c] + along->g[j][1] * row[1][c] + along->g[j][2] * row[2][c]);
    }
}

void BF_ISA_NAME(winograd_filter_gradient)(bf_algorithm algorithm, const double positions[][BF_BLOCK], double taps[9][BF_BLOCK])
{
    const filter_transform *down = down_of[algorithm], *along = along_of[algorithm];
    memset(taps, 0, sizeof(double[9][BF_BLOCK]));
    for (int i = 0; i < down->rows; i++)
        for (int k = 0; k < 3; k++) {
            double row[BF_BLOCK] = {0};
            for (int j = 0; j < along->rows; j++)
                for (int c = 0; c < BF_BLOCK; c++) row[c] += along->g[j][k] * positions[i * along->rows + j][c];
            for (int h = 0; h < 3; h++)
                for (int c = 0; c < BF_BLOCK; c++) taps[3 * h + k][c] += down->g[i][h] * row[c];
        }
}
