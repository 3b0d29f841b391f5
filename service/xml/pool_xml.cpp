// SPDX-License-Identifier: LGPL-2.1-or-later
#include "service/xml/pool_xml.hpp"

#include "service/xml/binding.hpp"
#include "service/xml/document.hpp"
#include "service/xml/tables.hpp"
#include "service/xml/values.hpp"

namespace virtbus::xml {

namespace {

constexpr Row folder_rows[]{attribute<&StoragePool::source_folder>("path")};
constexpr Row initiator_rows[]{leaf<&StoragePool::initiator_iqn>("iqn", "name")};
constexpr Row source_rows[]{
    element<&StoragePool::hosts>("host", storage_host_table),
    leaf<&StoragePool::devices>("device", "path"),
    group("dir", folder_rows),
    leaf<&StoragePool::source_name>("name"),
    element<&StoragePool::auth>("auth", storage_auth_table),
    group("initiator", initiator_rows),
};
constexpr Row target_rows[]{leaf<&StoragePool::target>("path")};
constexpr Row pool_rows[]{
    attribute<&StoragePool::type>("type").required(),
    leaf<&StoragePool::name>("name"),
    leaf<&StoragePool::uuid>("uuid").uuid(),
    group("source", source_rows),
    group("target", target_rows),
};
constinit const Table pool_table = table<StoragePool>(pool_rows);

}  // namespace

StoragePool parse_pool(std::string_view xml) {
    const Document document{xml, {.bytes = largest_pool, .depth = 16, .elements = 10'000}};
    StoragePool pool;
    std::vector<std::string> passed_over;
    read(pool_table, document.require_root("pool"), &pool, passed_over);
    for (auto* text : {&pool.name, &pool.target, &pool.source_name, &pool.source_folder})
        *text = std::string{trim(*text)};
    if (pool.auth)
        for (const auto& item : pool.auth->unknown.items())
            if (item.name == "type") pool.auth_type = item.text;
    return pool;
}

}  // namespace virtbus::xml
