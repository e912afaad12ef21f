/* bnff: training convolutional networks on CPUs with restructured batch normalization. Includes the whole public API. */
#ifndef BNFF_H
#define BNFF_H
#include <bnff/context.h>
#include <bnff/data.h>
#include <bnff/graph.h>
#include <bnff/machine.h>
#include <bnff/model.h>
#include <bnff/optim.h>
#include <bnff/plan.h>
#include <bnff/status.h>
#include <bnff/train.h>
#include <bnff/weights.h>
#endif
