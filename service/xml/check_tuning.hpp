// SPDX-License-Identifier: LGPL-2.1-or-later
// The threads and cells that <cputune> and <numatune> speak of are there, and each, as each disk of <blkiotune>, is
// spoken of once.
#pragma once

#include "virtbus/model/domain.hpp"

namespace virtbus::xml {

/// InvalidXML; the vCPUs must have been counted.
void check_tuning(const DomainConfig& config);

}  // namespace virtbus::xml
